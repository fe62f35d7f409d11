# Prints what a file of constraints pins of the packages that another file names:
#   awk -f pinned.awk run.txt constraints.txt
FNR == NR { wanted[$1]; next }
/^[a-z0-9]/ { split($1, pin, "=="); keep = pin[1] in wanted }
keep

"""Operations on the pair: questions about it, answered by asking both sides."""

"""The Supabase side: the publication, the slot, and the stream that is read from it."""

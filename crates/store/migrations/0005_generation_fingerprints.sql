-- Which weights, adapter and code sampled an answer, not only the name under which they were served then; and how likely each
-- sampled token was: 32-bit little-endian floats, one for each token, or NULL where they were not computed.
ALTER TABLE generations ADD COLUMN fingerprint TEXT;
ALTER TABLE generations ADD COLUMN logprobs BLOB;

"""Speed of embeddings beside sentence-transformers: compare.py drives, peer.py is the peer, texts.py makes what is read."""

"""Speed of training beside PyTorch: compare.py drives, torch_peer.py is the peer, shapes.py says what is trained."""

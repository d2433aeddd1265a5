"""How good the answers are: correlation against a simulated company whose causes are known. `make truth` prints it."""

"""Where does a network start that does not start from scratch? What others publish, a file, another run."""

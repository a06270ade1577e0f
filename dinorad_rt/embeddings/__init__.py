"""Images become embeddings in a store of Parquet shards."""

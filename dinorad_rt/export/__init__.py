"""How a backbone leaves PyTorch: recipe → traced module → typed program → ONNX graph, checked."""

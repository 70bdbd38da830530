"""AlexNet on CIFAR-10 in PyTorch and in TensorFlow/Keras, as a batch job whose results can be compared."""

__version__ = "0.1.0"

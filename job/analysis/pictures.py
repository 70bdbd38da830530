"""The pictures of a page, each in the page itself."""

import base64

ALT = {
    "accuracy": "accuracy after each epoch, in training and on the test set",
    "loss": "loss during training and on the test set",
    "confusion": "confusion matrix",
    "mistakes": "the most confident mistakes, each with its image, its true and its predicted class",
    "curves": "test and training accuracy of each side, and the difference between the sides, by epoch",
    "losses": "test and training loss of each side by epoch",
    "throughput": "images per second during training",
    "fleet": "what each GPU measured, with the limits beyond which one is an outlier",
    "resources": "use of processors, memory, disk and network over time",
}
CURVES = ("accuracy", "loss", "curves", "losses", "throughput")
"""those that stand under "Curves", in this order"""
PHOTOS = ("mistakes",)
"""those that dark mode must not invert"""


def picture(name: str, data: bytes) -> dict[str, str]:
    """A PNG file for the template, by its name without ending."""
    kind = "photo" if name in PHOTOS else "figure"
    alt = ALT.get(name, name.replace("-", " "))
    return {"alt": alt, "kind": kind, "data": f"data:image/png;base64,{base64.b64encode(data).decode()}"}

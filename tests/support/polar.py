"""Auto's duals, transcribed from the equations."""


def polar(matrix):
    """Five steps of the quintic, on one matrix, real or complex."""
    X = matrix / matrix.norm()
    if X.shape[0] > X.shape[1]:
        return polar(matrix.mH).mH
    for _ in range(5):
        S = X @ X.mH
        X = 3.4445 * X - 4.7750 * S @ X + 2.0315 * S @ S @ X
    return X

<<<<<<< HEAD
"""Exact posteriors: by quadrature, by conjugacy, by the Kalman filter."""
=======
"""Models whose posterior is known exactly, gaps and all, to hold an answer against."""
>>>>>>> wip-maps

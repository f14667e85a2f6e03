"""Exact posteriors: by quadrature, by conjugacy, by the Kalman filter."""

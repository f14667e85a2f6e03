"""Models whose posterior is known exactly, by quadrature, conjugacy or the Kalman filter."""

"""Is a posterior calibrated?"""

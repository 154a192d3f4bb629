"""OpenMeter's door: CloudEvents in, usage of a meter out."""

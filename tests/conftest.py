"""What holds for every test."""

from hypothesis import HealthCheck, settings

# How fast a machine is says nothing about the code. In CI hypothesis keeps its own profile beneath:
# the same examples every time.
settings.register_profile(
    "house", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

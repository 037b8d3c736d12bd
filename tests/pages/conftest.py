from ..comparison.conftest import cache, evaluated  # noqa: F401 - fixtures

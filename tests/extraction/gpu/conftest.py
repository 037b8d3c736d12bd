import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """More of them would wait for each other, on cores that other tests keep busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

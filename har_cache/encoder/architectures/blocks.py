"""The blocks of a model, in the order in which frames go through them: what stage three can unfreeze from the end."""

from collections.abc import Iterator

from torch import nn

Block = list[nn.Module]


def blocks(model: nn.Module, classifier: str) -> list[Block]:
    """The modules of each block, without the classifier, which has this name.

    A block is what a model repeats, a residual block say; or layers in a row, of which each that mixes its inputs
    begins one: ResNet's stem, ViT's embedding of patches, a norm at the end. Parameters that are in no block, such as
    embeddings of positions, belong to the first.
    """
    found: list[Block] = []
    in_row = False  # the last block is of single layers
    for module in _in_order(model, model.get_submodule(classifier)):
        own, single = list(module.parameters(recurse=False)), not _is_composite(module)
        joins = single and (not own or (in_row and all(parameter.ndim == 1 for parameter in own)))
        if joins and found:
            found[-1].append(module)
        elif own or not single:
            found.append([module])
            in_row = single
    return found


def _in_order(module: nn.Module, classifier: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if child is classifier:
            continue
        if classifier in child.modules() or _holds_blocks(child):
            yield from _in_order(child, classifier)
        else:
            yield child


def _holds_blocks(module: nn.Module) -> bool:
    """Whether a module is no block, but blocks or single layers in a row, or a stage that has some in it."""
    if type(module) in (nn.Sequential, nn.ModuleList):
        return True
    return _is_stack(module) or sum(_is_stack(child) for child in module.children()) == 1


def _is_stack(module: nn.Module) -> bool:
    """Whether it is the same block several times over."""
    children = list(module.children())
    if not isinstance(module, nn.Sequential | nn.ModuleList) or len({type(child) for child in children}) != 1:
        return False
    return all(_is_composite(child) and not isinstance(child, nn.Sequential) for child in children)


def _is_composite(module: nn.Module) -> bool:
    return any(True for child in module.children() for _ in child.parameters())

"""What can go wrong in KAEM beyond a wrong argument (those are ValueErrors)."""


class KAEMError(RuntimeError):
    """Training or sampling cannot go on."""


class NonFiniteError(KAEMError):
    """Data, a loss, or a chain holds NaN or infinity."""


class ChainLeftDomainError(KAEMError):
    """A stored chain lies outside the prior's domain, where its density is zero."""

"""The multigrid cycle on a padded box, composed of a finest level, coarse levels and their smoothing.

One V step from the finest level, every coarser level visited twice (z + M (r - A z), a W-cycle), the coarsest solved
by its dense pseudo-inverse. Symmetric as long as post-smoothing is the transpose of pre-smoothing. See Briggs, Henson
and McCormick, A Multigrid Tutorial (SIAM 2000), chapter 3.

`learned.py` and `classical.py` build such cycles. A further kind of finest level implements `finest.Finest`, a further
kind of smoothing on coarse levels `coarse.Coarse`.
"""

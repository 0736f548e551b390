"""The data sets of ``conf/data``: each function reads one and returns a :class:`Source`.

===================  ======================  ===========================  =======
function             images                  train / val / test           classes
===================  ======================  ===========================  =======
``digits``           grey 8x8                1,797 / - / -                10
``mnist``            grey 28x28              60,000 / - / 10,000          10
``fashion_mnist``    grey 28x28              60,000 / - / 10,000          10
``kmnist``           grey 28x28              60,000 / - / 10,000          10
``emnist``           grey 28x28              112,800 / - / 18,800         47
``svhn``             colour 32x32            73,257 / - / 26,032          10
``cifar10``          colour 32x32            50,000 / - / 10,000          10
``cifar100``         colour 32x32            50,000 / - / 10,000          100
``stl10``            colour 96x96            5,000 / - / 8,000            10
``flowers102``       colour files            1,020 / 1,020 / 6,149        102
``oxford_pets``      colour files            3,680 / - / 3,669            37
``fgvc_aircraft``    colour files            3,334 / 3,333 / 3,333        100
``stanford_cars``    colour files            8,144 / - / 8,041            196
``dtd``              colour files            1,880 / 1,880 / 1,880        47
``eurosat``          colour files 64x64      27,000 / - / -               10
``food101``          colour files            75,750 / - / 25,250          101
``fake``             as asked                as asked                     any
``image_folder``     your files              as the folders say           any
===================  ======================  ===========================  =======

Sets of a fixed size are held in memory, read once and shared by all processes (:mod:`resweep.data.cache`); files of
large images are decoded as those of an image folder are.
"""

from resweep.data.base import Samples, Source
from resweep.data.image_folder import image_folder
from resweep.data.sources.builtin import digits, fake
from resweep.data.sources.fine_grained import fgvc_aircraft, flowers102, oxford_pets, stanford_cars
from resweep.data.sources.idx import emnist, fashion_mnist, kmnist, mnist
from resweep.data.sources.pictures import dtd, eurosat, food101
from resweep.data.sources.thumbnails import cifar10, cifar100, stl10, svhn

__all__ = [
    "Samples", "Source", "cifar10", "cifar100", "digits", "dtd", "emnist", "eurosat", "fake", "fashion_mnist",
    "fgvc_aircraft", "flowers102", "food101", "image_folder", "kmnist", "mnist", "oxford_pets", "stanford_cars",
    "stl10", "svhn",
]  # fmt: skip

"""Pictures of a ranked sweep as inline SVG; a function returns None where a sweep has nothing to draw."""

from resweep.report.plots.canvas import DASHES as DASHES
from resweep.report.plots.canvas import HIGHLIGHTED as HIGHLIGHTED
from resweep.report.plots.canvas import PALETTE as PALETTE
from resweep.report.plots.canvas import VARIABLES as VARIABLES
from resweep.report.plots.canvas import Plot as Plot
from resweep.report.plots.canvas import cut as cut
from resweep.report.plots.cost import cost_plot as cost_plot
from resweep.report.plots.curves import learning_curves as learning_curves
from resweep.report.plots.factors import factor_effects as factor_effects
from resweep.report.plots.inside import calibration_plot as calibration_plot
from resweep.report.plots.inside import confusion_picture as confusion_picture
from resweep.report.plots.inside import weight_norms_plot as weight_norms_plot
from resweep.report.plots.maps import heat_maps as heat_maps
from resweep.report.plots.parallel import parallel_coordinates as parallel_coordinates
from resweep.report.plots.settings import dot_plot as dot_plot
from resweep.report.plots.settings import gap_plot as gap_plot
from resweep.report.plots.speed import anytime_plot as anytime_plot
from resweep.report.plots.speed import profile_plot as profile_plot
from resweep.report.plots.speed import time_to_target_plot as time_to_target_plot
from resweep.report.plots.tuning import budget_plot as budget_plot
from resweep.report.plots.tuning import sensitivity_plot as sensitivity_plot

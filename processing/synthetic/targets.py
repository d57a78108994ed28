"""How often things occur: aggregate numbers measured on BDD100K's own label files.

Measured on the `det_20` labels and drivable masks of the 806 validation frames in a 5,929-frame part of
BDD100K (Yu et al., 2020, "BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning",
arXiv:1805.04687): counts a frame, shares of frames, shares of attributes. Only these summaries are used; no
frame or label enters the renderer.
"""

SCENE = {"city street": 0.63, "highway": 0.25, "residential": 0.12}
TIMEOFDAY_BY_SCENE = {
    "city street": {"daytime": 0.51, "night": 0.41, "dawn/dusk": 0.08},
    "highway": {"daytime": 0.57, "night": 0.35, "dawn/dusk": 0.08},
    "residential": {"daytime": 0.79, "night": 0.10, "dawn/dusk": 0.11},
}
# Fog is 0.4% of the real frames; it is drawn four times as often so that it occurs in small data sets at all.
WEATHER_BY_TIMEOFDAY = {
    "daytime": {
        "clear": 0.43,
        "overcast": 0.19,
        "snowy": 0.15,
        "partly cloudy": 0.14,
        "rainy": 0.09,
        "foggy": 0.015,
    },
    "night": {"clear": 0.81, "snowy": 0.09, "rainy": 0.08, "overcast": 0.02, "foggy": 0.015},
    "dawn/dusk": {
        "clear": 0.44,
        "partly cloudy": 0.18,
        "overcast": 0.18,
        "rainy": 0.12,
        "snowy": 0.07,
        "foggy": 0.015,
    },
}
# The label files call 32% of the lights green, 21% red and leave the rest open; yellow is rare.
SIGNAL_STATE = {"green": 0.55, "red": 0.38, "yellow": 0.07}


JUNCTION = {"city street": 0.92, "residential": 0.6, "highway": 0.15}
JUNCTION_SIGNALLED = {"city street": 0.78, "residential": 0.45, "highway": 1.0}

# Box bottoms spread more than a flat road explains: hills and mounts are folded into the horizon's row.
HORIZON_MEAN = 330.0
HORIZON_SPREAD = 38.0

TRAFFIC_SHAPE = 1.35  # cars a frame: mean 10.5, 5% and 95% quantiles 2 and 21
OPEN_ROAD = 0.13  # nobody ahead in the ego lane; 85% of the frames have a vehicle in the corridor ahead
OFF_ROAD_CARS = {"city street": 2.4, "residential": 4.0, "highway": 1.0}
VEHICLE_MODEL = {
    "sedan": 0.42,
    "suv": 0.31,
    "hatchback": 0.12,
    "van": 0.06,
    "taxi": 0.045,
    "pickup": 0.012,
    "box_truck": 0.014,
    "semi": 0.003,
    "bus": 0.013,
    "tram": 0.0003,
}
VEHICLE_MODEL_HIGHWAY = {
    "sedan": 0.45,
    "suv": 0.32,
    "hatchback": 0.11,
    "van": 0.06,
    "pickup": 0.02,
    "box_truck": 0.02,
    "semi": 0.016,
    "bus": 0.006,
}

PEOPLE_PRESENT = {"city street": 0.58, "highway": 0.08, "residential": 0.40}
PEOPLE_MEAN_WHEN_PRESENT = 4.6
TWO_WHEELERS = {"bicycle": 0.24, "motorcycle": 0.10}
RIDDEN = {"bicycle": 0.60, "motorcycle": 0.5}

SIGNS_PRESENT = 0.80
SIGNS_MEAN_WHEN_PRESENT = 5.4
SIGN_MODEL = {
    "parking": 0.30,
    "street": 0.24,
    "warning": 0.12,
    "speed": 0.12,
    "no_entry": 0.05,
    "oneway": 0.12,
    "guide": 0.05,
}
SIGN_MODEL_HIGHWAY = {"speed": 0.3, "warning": 0.25, "guide": 0.45}

#!/bin/sh
# napari draws with OpenGL and Qt, which need system libraries on Linux; the tests need a virtual display (Xvfb).
# Installs them on Debian and Ubuntu when run as root; otherwise says which to install and goes on.
set -eu
packages="xvfb xdotool libgl1 libegl1 libopengl0 libgl1-mesa-dri libglib2.0-0 libdbus-1-3 libfontconfig1
 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0
 libxcb-shape0 libxcb-xinerama0"

[ "$(uname -s)" = Linux ] || exit 0
if ! command -v dpkg >/dev/null; then
	echo "Not a Debian system. If napari does not start, install Xvfb, OpenGL (Mesa) and Qt's xcb libraries." >&2
	exit 0
fi
missing=""
for package in $packages; do
	dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
	apt-get update -qq
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
	echo "napari and its tests need these packages; please install them: sudo apt-get install$missing" >&2
fi

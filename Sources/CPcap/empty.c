// SwiftPM wants a source file for a C target; libpcap itself is a Debian package.
#include "CPcap.h"

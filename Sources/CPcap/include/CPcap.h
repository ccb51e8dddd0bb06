// libpcap, for the verbs that read and write captures; the daemon never sees it.
#ifndef SHUCK_CPCAP_H
#define SHUCK_CPCAP_H

#include <features.h>
#include <pcap/pcap.h>

#endif

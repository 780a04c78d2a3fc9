// Package pcapng writes packets in the PCAP Next Generation format, which Wireshark and tshark read
// (draft-ietf-opsawg-pcapng): sections, interfaces, enhanced packet blocks with comments, directions,
// hashes and packet identifiers, names of addresses, and interface statistics.
//
// Every block is handed to the writer whole, in one call, so that whatever was written before a crash or
// a full disk can be read. Integers are little-endian, times are nanoseconds.
package pcapng

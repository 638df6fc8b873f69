package udp

import (
	"net"
	"net/netip"

	"timberline/wire"
)

// single is the transfer of any system: one datagram a call.
type single struct{ udp *net.UDPConn }

func newSingle(conn *net.UDPConn) (transfer, error) { return single{conn}, nil }

func (s single) read(ds []wire.Datagram) (int, error) {
	n, addr, err := s.udp.ReadFromUDPAddrPort(ds[0].Data)
	if err != nil {
		return 0, err
	}
	ds[0].Data = ds[0].Data[:n]
	ds[0].Addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return 1, nil
}

func (single) backlog() (full float64, lost uint32) { return 0, 0 }

func (s single) write(ds []wire.Datagram) (int, error) {
	if _, err := s.udp.WriteToUDPAddrPort(ds[0].Data, ds[0].Addr); err != nil {
		return 0, err
	}
	return 1, nil
}

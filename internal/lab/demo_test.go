package lab

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

func TestDemoQuick(t *testing.T) {
	t0 := time.Now()
	d, err := NewDemo(context.Background(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("build", time.Since(t0))
	for _, v6 := range []bool{false, true} {
		t0 = time.Now()
		c, err := d.Client.Dial(t.Context(), "tcp", d.Published(v6).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Log("connect", time.Since(t0))
		io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		b, err := io.ReadAll(c)
		t.Logf("%q %v", b, err)
		c.(*net.TCPConn).Close()
	}
	t0 = time.Now()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	t.Log("close", time.Since(t0))
}

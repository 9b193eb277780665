// SPDX-License-Identifier: Apache-2.0

package cgroupdriver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// bus is a message bus with one service, systemd's manager, whose answer to
// GetUnitByPID is given. It speaks the real protocol on a socket of its own.
func bus(t *testing.T, answer func(call *dbus.Message) *dbus.Message) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveBus(conn, answer)
		}
	}()
}

func serveBus(conn net.Conn, answer func(*dbus.Message) *dbus.Message) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.Trim(line, "\x00\r\n")
		reply := "ERROR\r\n"
		switch {
		case line == "BEGIN":
			serveCalls(conn, in, answer)
			return
		case line == "AUTH":
			reply = "REJECTED EXTERNAL\r\n"
		case line == "AUTH EXTERNAL":
			reply = "DATA\r\n"
		case strings.HasPrefix(line, "DATA"), strings.HasPrefix(line, "AUTH EXTERNAL "):
			reply = "OK 0123456789abcdef0123456789abcdef\r\n"
		}
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
	}
}

func serveCalls(conn net.Conn, in *bufio.Reader, answer func(*dbus.Message) *dbus.Message) {
	for serial := uint32(1); ; serial++ {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		var reply *dbus.Message
		switch call.Headers[dbus.FieldMember].Value() {
		case "Hello":
			reply = result(":1.1")
		case "GetUnitByPID":
			reply = answer(call)
		default:
			reply = result()
		}
		if reply == nil {
			continue
		}
		reply.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(call.Serial())
		reply.Headers[dbus.FieldSender] = dbus.MakeVariant("org.freedesktop.DBus")
		if err := send(conn, reply, serial); err != nil {
			return
		}
		// Who subscribes is told of a reload at once.
		if call.Headers[dbus.FieldMember].Value() == "Subscribe" {
			for _, active := range []bool{true, false} {
				serial++
				if err := send(conn, reloading(active), serial); err != nil {
					return
				}
			}
		}
	}
}

func reloading(active bool) *dbus.Message {
	m := result(active)
	m.Type = dbus.TypeSignal
	m.Headers[dbus.FieldPath] = dbus.MakeVariant(dbus.ObjectPath(managerPath))
	m.Headers[dbus.FieldInterface] = dbus.MakeVariant(managerInterface)
	m.Headers[dbus.FieldMember] = dbus.MakeVariant("Reloading")
	m.Headers[dbus.FieldSender] = dbus.MakeVariant(":1.0")
	return m
}

func result(body ...any) *dbus.Message {
	m := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{}, Body: body}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	return m
}

// send encodes a message and puts in its serial, which the library keeps to
// itself: it is the third word of the header.
func send(conn net.Conn, m *dbus.Message, serial uint32) error {
	var b strings.Builder
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		return err
	}
	raw := []byte(b.String())
	binary.LittleEndian.PutUint32(raw[8:], serial)
	_, err := conn.Write(raw)
	return err
}

func ask(t *testing.T) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return askManager(ctx)
}

func TestAskManager(t *testing.T) {
	bus(t, func(call *dbus.Message) *dbus.Message {
		if len(call.Body) != 1 || call.Body[0] != uint32(os.Getpid()) {
			t.Errorf("asked for %v, want %d", call.Body, os.Getpid())
		}
		return result(dbus.ObjectPath("/org/freedesktop/systemd1/unit/quoind_2eservice"))
	})
	if unit, err := ask(t); err != nil || unit != "quoind.service" {
		t.Errorf("%q, %v", unit, err)
	}
}

func TestAskManagerNoUnit(t *testing.T) {
	bus(t, func(*dbus.Message) *dbus.Message {
		m := result("PID 7 does not belong to any loaded unit.")
		m.Type = dbus.TypeError
		m.Headers[dbus.FieldErrorName] = dbus.MakeVariant("org.freedesktop.systemd1.NoUnitForPID")
		return m
	})
	var unknown *unitUnknownError
	if unit, err := ask(t); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "any loaded unit") {
		t.Errorf("%q, %v", unit, err)
	}
}

// A bus that takes the question and is then silent, and one that is silent from
// the first byte.
func TestAskManagerSilent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	bus(t, func(*dbus.Message) *dbus.Message { return nil })
	if unit, err := askManager(ctx); err == nil {
		t.Errorf("got %q", unit)
	}
	socket := filepath.Join(t.TempDir(), "deaf")
	l, err := net.Listen("unix", socket)
	must(t, err)
	defer l.Close()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	f, err := prober{host(t, nil), askManager}.probe(ctx)
	must(t, err)
	if f.Answered {
		t.Errorf("%+v", f)
	}
}

// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// What ttrpc puts on the wire (its PROTOCOL.md): a header of 10 bytes, which is
// the length of what follows, a stream's number, a type and flags, and then a
// message. The longest message that a server takes is of 4 MiB; of a longer one
// it reads all, and answers with an error.
const (
	frameHeader     = 10
	maxFrame        = 4 << 20
	typeRequest     = 1
	typeResponse    = 2
	typeData        = 3
	flagRemoteClose = 1
)

// header is one that was read.
type header struct {
	length uint32
	stream uint32
	kind   uint8
	flags  uint8
}

func parseHeader(b []byte) header {
	return header{
		length: binary.BigEndian.Uint32(b),
		stream: binary.BigEndian.Uint32(b[4:]),
		kind:   b[8],
		flags:  b[9],
	}
}

// answers says that a frame of the server is the last one of its stream.
func (h header) answers() bool {
	return h.kind == typeResponse || h.kind == typeData && h.flags&flagRemoteClose != 0
}

// frame is one of a client, whole, but for an oversized one, which is the header
// alone.
type frame struct {
	header
	bytes  []byte
	method string // of a request, as /service/method
}

func newFrame(h header, bytes []byte) *frame {
	f := &frame{header: h, bytes: bytes}
	if h.kind == typeRequest {
		f.method = methodOf(bytes[frameHeader:])
	}
	return f
}

// Fields of ttrpc.Request.
const (
	serviceField = 1
	methodField  = 2
)

// methodOf reads the method out of an encoded ttrpc.Request. What is none has
// none; the server will say so.
func methodOf(request []byte) string {
	var service, method string
	for len(request) > 0 {
		number, kind, n := protowire.ConsumeTag(request)
		if n < 0 {
			return ""
		}
		request = request[n:]
		if kind == protowire.BytesType && (number == serviceField || number == methodField) {
			value, n := protowire.ConsumeBytes(request)
			if n < 0 {
				return ""
			}
			if number == serviceField {
				service = string(value)
			} else {
				method = string(value)
			}
		}
		if n = protowire.ConsumeFieldValue(number, kind, request); n < 0 {
			return ""
		}
		request = request[n:]
	}
	return "/" + service + "/" + method
}

// encodeResponse makes the frame of a response on a stream.
func encodeResponse(stream uint32, message []byte) []byte {
	b := make([]byte, frameHeader, frameHeader+len(message))
	binary.BigEndian.PutUint32(b, uint32(len(message)))
	binary.BigEndian.PutUint32(b[4:], stream)
	b[8] = typeResponse
	return append(b, message...)
}

// outgoing follows the frames of a server.
type outgoing struct {
	begun []byte // of a header
	last  header
	left  uint32 // bytes of the message to come
}

// between says that no frame has begun without having ended.
func (o *outgoing) between() bool { return len(o.begun) == 0 && o.left == 0 }

// wrote takes what was written, and calls whole for each frame that this ends.
func (o *outgoing) wrote(p []byte, whole func(header)) {
	for len(p) > 0 {
		if o.left > 0 {
			n := min(int(o.left), len(p))
			o.left -= uint32(n)
			p = p[n:]
		} else {
			n := min(frameHeader-len(o.begun), len(p))
			o.begun = append(o.begun, p[:n]...)
			p = p[n:]
			if len(o.begun) < frameHeader {
				return
			}
			o.last = parseHeader(o.begun)
			o.begun, o.left = o.begun[:0], o.last.length
		}
		if o.left == 0 {
			whole(o.last)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

// Package control owns the service by which a shim is looked at and upgraded,
// beside the Task API on the shim's own socket: its messages, its server and its
// client. It does not gather what it tells, nor upgrade anything: whoever serves
// gives it a Handler.
//
// The service is "quoin.shim.v1.Control" with the methods Info and Upgrade.
// Requests and responses are google.protobuf.Any whose value is JSON and whose
// type URL names the message: fields are only ever added, unknown ones are
// ignored, and no pod pays for message descriptors. A shim that does not know
// the service, such as runc's, answers with a status that Client turns into
// errdefs.ErrNotImplemented.
package control

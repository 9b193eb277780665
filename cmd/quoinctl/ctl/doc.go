// SPDX-License-Identifier: Apache-2.0

// Package ctl owns quoinctl's command line: ctr's, with other defaults and with
// its options for runc working for Quoin's runtime too. It does not change what
// any command of ctr does otherwise.
package ctl

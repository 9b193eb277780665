// SPDX-License-Identifier: Apache-2.0

// Package program starts other programs. It owns what has to be done so that a file
// system that does not answer holds up the caller and nobody else. It knows no
// deadlines, ends nothing, and reaps nothing but what it has started.
package program

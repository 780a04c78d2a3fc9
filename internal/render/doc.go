// Package render turns finished paths and verdicts into what people and programs read: text for one
// probe (Text), lines and a summary for watched traffic (Live), JSON Lines (JSON) with its JSON
// Schema (Schema), and the table of hooks (Hooks).
//
// It does no input or output but writing to the io.Writer it is given, reads no clock and looks
// nothing up: names, bridges and networks are expected in the hops.
package render

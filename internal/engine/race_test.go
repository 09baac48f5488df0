//go:build race

package engine_test

// raceDetector makes a million messages slow, and their memory mean nothing.
const raceDetector = true

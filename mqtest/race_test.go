//go:build race

package mqtest_test

// raceDetector makes a million messages slow, and their memory mean nothing.
const raceDetector = true

"use strict"

// Chance that can be had again: a sample of moments is chosen by a seed that stands in its test's name.

/** The seed of this run; ALIEN_TEST_SEED repeats an earlier one. */
const seed = Number(process.env.ALIEN_TEST_SEED ?? Date.now() % 1_000_000)

/** Numbers from 0 to 1 that look random, the same for the same seed (mulberry32). */
function numbers(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

module.exports = { numbers, seed }

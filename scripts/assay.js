// The entry is JavaScript: what it loads comes from the compile cache with its types stripped already, which loading
// TypeScript first would miss. Saves a third of a second at every start.
import './lib/node.js'

await import('./assay.ts')

import { differential } from './differential.ts'
import { openSides } from './sides.ts'

differential(openSides)

/** The movable model with everything it can have, for a server in another process. */
import { movable } from './movable-model.ts';

export default () => movable({ bulk: true, p2p: true, blocks: 256, blockSize: 4096 });

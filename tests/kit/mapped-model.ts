// A device whose BAR 2 is memory that a client may map.
import { bar, device, memory, u32 } from '../../src/doors/index.ts';

export default device({ id: '1234:3a99', name: 'mapped', bars: { bar0: bar('4K', { a: u32(0) }), bar2: memory('16K') } });

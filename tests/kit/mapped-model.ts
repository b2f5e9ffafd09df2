// A device whose BAR 2 is memory that a client may map.
import { bar, device, memory, reg } from '../../src/doors/index.ts';

export default device({ id: '1234:3a99', name: 'mapped', bar0: bar('4K', { a: reg(0) }), bar2: memory('16K') });

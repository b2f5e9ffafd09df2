// The entropy device of examples/devices, with bytes that a test knows.
import virtioRng from '../../../examples/devices/virtio-rng.ts';

export default virtioRng({ source: (into) => void into.fill(0x5a) });

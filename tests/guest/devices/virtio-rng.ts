// The package's entropy device, with bytes that a test knows.
import { virtioRng } from 'vfio-ts/device';

export default virtioRng({ source: (into) => void into.fill(0x5a) });

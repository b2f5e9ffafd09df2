// The serial port of examples/devices, whose other end answers each byte in upper case.
import type { DeviceHost } from 'vfio-ts/device';
import uart from '../../../examples/devices/uart.ts';

const port = uart();

export default {
  ...port,
  create(host: DeviceHost) {
    const line = port.create(host);
    line.on('transmit', (byte) => line.inputs.receive([byte >= 0x61 && byte <= 0x7a ? byte - 0x20 : byte]));
    return line;
  },
};

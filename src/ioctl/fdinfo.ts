/**
 * /proc/PID/fdinfo/FD: the lines that a file has behind those of every file.
 *
 * @see linux/drivers/vfio/vfio_main.c, vfio_device_show_fdinfo(); drivers/dma-buf/dma-buf.c,
 * dma_buf_show_fdinfo()
 */
import type { LinuxRules } from '../engine/linux-version.ts';
import type { OpenFile } from './file-table.ts';

/** Lines that end in a newline; empty for a file without lines of its own. */
export function fdinfoOf({ body }: OpenFile): string {
  switch (body.kind) {
    case 'cdev':
      return syspath(body.cdev.linux, body.cdev.fn.sysfsPath);
    case 'device':
      return syspath(body.device.device.ctx.linux, body.device.device.fn.sysfsPath);
    default:
      return '';
  }
}

function syspath(linux: LinuxRules, path: string | undefined): string {
  return path === undefined || !linux.fdinfoPath ? '' : `vfio-device-syspath: ${path}\n`;
}

/**
 * The sizes of every request of /dev/iommu before anything exists, and the file itself:
 * iommufd-sizes.txt.
 */
import { MapFlags, OpenFlags, PollEvents, Prot } from '../../../src/ioctl/posix.ts';
import { IommufdAsker, io, PG, packed } from './asker.ts';

/** In the order of their numbers, from 0x80: name and bytes. */
const requests: readonly (readonly [name: string, size: number])[] = [
  ['DESTROY', 8],
  ['IOAS_ALLOC', 12],
  ['IOAS_ALLOW_IOVAS', 24],
  ['IOAS_COPY', 40],
  ['IOAS_IOVA_RANGES', 32],
  ['IOAS_MAP', 40],
  ['IOAS_UNMAP', 24],
  ['OPTION', 24],
  ['VFIO_IOAS', 12],
  ['HWPT_ALLOC', 48],
  ['GET_HW_INFO', 40],
  ['HWPT_SET_DIRTY_TRACKING', 16],
  ['HWPT_GET_DIRTY_BITMAP', 48],
  ['HWPT_INVALIDATE', 32],
  ['FAULT_QUEUE_ALLOC', 16],
  ['IOAS_MAP_FILE', 40],
  ['VIOMMU_ALLOC', 40],
  ['VDEVICE_ALLOC', 24],
  ['IOAS_CHANGE_PROCESS', 8],
  ['VEVENTQ_ALLOC', 32],
  ['HW_QUEUE_ALLOC', 40],
  ['IOAS_NOIOMMU_GET_PA', 40],
];
const DESTROY = 0x80;
const IOAS_ALLOC = 0x81;
const FAULT_QUEUE_ALLOC = 0x8e;
const GET_HW_INFO = 0x8a;

export class SizesQuestions extends IommufdAsker {
  ask(): void {
    const u = this.user;
    this.io = this.openIommu();
    this.t(u.ioctl(this.io, io(0x7f), 0), 'ioctl 0x7f NULL');
    for (let n = 0x80; n <= 0x9a; n++)
      this.t(u.ioctl(this.io, io(n), 0), `0x${n.toString(16)} ${requests[n - 0x80]?.[0] ?? 'unknown'} NULL`);
    requests.forEach(([name, size], i) => {
      this.#sizes(0x80 + i, name, size);
    });
    this.t(u.ioctl(this.io, 0x40043b81, 0), 'IOAS_ALLOC encoded as _IOW, NULL');
    const alloc = packed([12, 0, 0]);
    this.t(u.ioctl(this.io, 0xc00c3b81, alloc), 'IOAS_ALLOC encoded as _IOWR');
    this.t(u.ioctl(this.io, 0x3c81, alloc), "type '<' nr 0x81");
    this.t(u.ioctl(this.io, io(IOAS_ALLOC), 1), 'IOAS_ALLOC bad pointer');
    this.#file();
    const [first, second, third] = [this.ioas('first'), this.ioas('second'), this.ioas('third')];
    this.destroy(second, '');
    const fourth = this.ioas('after a hole (id reused?)');
    this.destroy(second, 'again');
    for (const id of [first, third, fourth]) this.destroy(id, '');
    this.destroy(0, '(id 0)');
    this.destroy(0xffff_ffff, '(id ~0)');
    const readOnly = this.t(u.open('/dev/iommu', OpenFlags.O_RDONLY), 'open(/dev/iommu) O_RDONLY');
    this.ioas('on an O_RDONLY fd', readOnly);
    this.fdinfo(this.io, '/dev/iommu');
  }

  #sizes(number: number, name: string, known: number): void {
    for (const size of [0, 4, known - 8, known - 4, known - 1, known, known + 1, known + 8, 256, 4096, 4104, 0x1_0000]) {
      const bytes = new Uint8Array(0x1_0000);
      const id = number === GET_HW_INFO || number === DESTROY ? 0xffff_ffff : 0;
      bytes.set(packed([size, id]));
      const answer = this.x(this.io, io(number), bytes, `${name} size=${size} zero body`, Math.min(size, 64));
      if (this.result !== 0) continue;
      const quiet = (object: number) => this.user.ioctl(this.io, io(DESTROY), packed([8, object]));
      if (number === IOAS_ALLOC) quiet(answer.getUint32(8, true));
      if (number === FAULT_QUEUE_ALLOC) {
        this.user.close(answer.getUint32(12, true));
        quiet(answer.getUint32(8, true));
      }
    }
    const tail = new Uint8Array(512);
    tail.set(packed([known + 8]));
    tail[known + 3] = 1;
    this.x(this.io, io(number), tail, `${name} size=${known + 8} nonzero tail`, 16);
  }

  #file(): void {
    const u = this.user;
    this.t(u.read(this.io, new Uint8Array(8)), 'read(/dev/iommu)');
    this.t(u.write(this.io, new Uint8Array(8)), 'write(/dev/iommu)');
    const { ready, events } = u.poll([{ fd: this.io, events: PollEvents.IN | PollEvents.OUT }]);
    this.t(ready, 'poll(/dev/iommu)');
    this.say(`  revents 0x${events[0]!.toString(16)}`);
    this.t(this.mapped(PG, Prot.READ, MapFlags.SHARED, this.io), 'mmap(/dev/iommu) shared');
    this.t(this.mapped(PG, Prot.READ, MapFlags.PRIVATE, this.io), 'mmap(/dev/iommu) private');
  }
}

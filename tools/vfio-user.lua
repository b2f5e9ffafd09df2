-- Wireshark dissector for the vfio-user protocol, in captures that `vfio trace --write` makes: link
-- type USER0, one message a packet.
--
--   wireshark -X lua_script:tools/vfio-user.lua FILE.pcapng
--   tshark    -X lua_script:tools/vfio-user.lua -r FILE.pcapng -V
--
-- Wireshark also loads it from its folder of personal plugins (Help, About, Folders). All integers
-- are little-endian.
--
-- The table below is that of the messages, with the words that `vfio trace` prints; the code behind
-- it is the Lua half of src/vfio-user/messages/words.ts, and the words are the same.

local proto = Proto("vfio-user", "vfio-user protocol")

-- begin of the table: written by tools/vfio-user-lua.ts
local errnos = {
  [1] = "EPERM",
  [2] = "ENOENT",
  [3] = "ESRCH",
  [4] = "EINTR",
  [5] = "EIO",
  [6] = "ENXIO",
  [7] = "E2BIG",
  [9] = "EBADF",
  [11] = "EAGAIN",
  [12] = "ENOMEM",
  [13] = "EACCES",
  [14] = "EFAULT",
  [16] = "EBUSY",
  [17] = "EEXIST",
  [19] = "ENODEV",
  [20] = "ENOTDIR",
  [21] = "EISDIR",
  [22] = "EINVAL",
  [24] = "EMFILE",
  [25] = "ENOTTY",
  [27] = "EFBIG",
  [28] = "ENOSPC",
  [29] = "ESPIPE",
  [30] = "EROFS",
  [32] = "EPIPE",
  [34] = "ERANGE",
  [35] = "EDEADLK",
  [36] = "ENAMETOOLONG",
  [37] = "ENOLCK",
  [38] = "ENOSYS",
  [40] = "ELOOP",
  [42] = "ENOMSG",
  [71] = "EPROTO",
  [75] = "EOVERFLOW",
  [77] = "EBADFD",
  [87] = "EUSERS",
  [90] = "EMSGSIZE",
  [95] = "EOPNOTSUPP",
  [98] = "EADDRINUSE",
  [100] = "ENETDOWN",
  [104] = "ECONNRESET",
  [110] = "ETIMEDOUT",
  [111] = "ECONNREFUSED",
  [122] = "EDQUOT",
}
local names = {
  { { "READ", 1 }, { "WRITE", 2 }, { "MMAP", 4 }, { "FILE_IO", 8 } },
  { { "RESET", 1 }, { "PCI", 2 }, { "PLATFORM", 4 }, { "CAPS", 128 } },
  {
    { "BAR0", 0 },
    { "BAR1", 1 },
    { "BAR2", 2 },
    { "BAR3", 3 },
    { "BAR4", 4 },
    { "BAR5", 5 },
    { "ROM", 6 },
    { "CONFIG", 7 },
    { "VGA", 8 },
  },
  { { "READ", 1 }, { "WRITE", 2 }, { "MMAP", 4 }, { "CAPS", 8 } },
  { { "IOEVENTFD", 0 }, { "IOREGIONFD", 1 }, { "SHADOW_IOEVENTFD", 2 } },
  { { "INTX", 0 }, { "MSI", 1 }, { "MSIX", 2 }, { "ERR", 3 }, { "REQ", 4 } },
  { { "EVENTFD", 1 }, { "MASKABLE", 2 }, { "AUTOMASKED", 4 }, { "NORESIZE", 8 } },
  { { "mask", 8 }, { "unmask", 16 }, { "trigger", 32 } },
  { { "none", 1 }, { "bool", 2 }, { "eventfd", 4 } },
  { { "START", 1 }, { "STOP", 2 }, { "GET_BITMAP", 4 } },
  {
    { "PCI_VF_TOKEN", 0 },
    { "MIGRATION", 1 },
    { "MIG_DEVICE_STATE", 2 },
    { "LOW_POWER_ENTRY", 3 },
    { "LOW_POWER_ENTRY_WITH_WAKEUP", 4 },
    { "LOW_POWER_EXIT", 5 },
    { "DMA_LOGGING_START", 6 },
    { "DMA_LOGGING_STOP", 7 },
    { "DMA_LOGGING_REPORT", 8 },
    { "MIG_DATA_SIZE", 9 },
    { "BUS_MASTER", 10 },
    { "DMA_BUF", 11 },
    { "MIG_PRECOPY_INFO_V2", 12 },
    { "SYSTEM_SLEEP", 65024 },
    { "SYSTEM_SLEEP_ACK", 65025 },
  },
  {
    { "ERROR", 0 },
    { "STOP", 1 },
    { "RUNNING", 2 },
    { "STOP_COPY", 3 },
    { "RESUMING", 4 },
    { "RUNNING_P2P", 5 },
    { "PRE_COPY", 6 },
    { "PRE_COPY_P2P", 7 },
  },
  { { "off", 0 }, { "on", 1 } },
  { { "STOP_COPY", 1 }, { "P2P", 2 }, { "PRE_COPY", 4 } },
}
local structs = {
  vfio_user_version = { size = 4, fields = { { "major", 0, 2 }, { "minor", 2, 2 } } },
  vfio_user_dma_map = {
    size = 32,
    fields = { { "argsz", 0, 4 }, { "flags", 4, 4 }, { "offset", 8, 8 }, { "address", 16, 8 }, { "size", 24, 8 } },
  },
  vfio_user_dma_unmap = { size = 24, fields = { { "argsz", 0, 4 }, { "flags", 4, 4 }, { "address", 8, 8 }, { "size", 16, 8 } } },
  vfio_user_bitmap = { size = 16, fields = { { "pgsize", 0, 8 }, { "size", 8, 8 } } },
  vfio_user_device_info = { size = 16, fields = { { "argsz", 0, 4 }, { "flags", 4, 4 }, { "num_regions", 8, 4 }, { "num_irqs", 12, 4 } } },
  vfio_region_info = {
    size = 32,
    fields = {
      { "argsz", 0, 4 },
      { "flags", 4, 4 },
      { "index", 8, 4 },
      { "cap_offset", 12, 4 },
      { "size", 16, 8 },
      { "offset", 24, 8 },
    },
  },
  vfio_user_region_io_fds = { size = 16, fields = { { "argsz", 0, 4 }, { "flags", 4, 4 }, { "index", 8, 4 }, { "count", 12, 4 } } },
  vfio_user_sub_region_ioeventfd = {
    size = 40,
    fields = {
      { "offset", 0, 8 },
      { "size", 8, 8 },
      { "fd_index", 16, 4 },
      { "type", 20, 4 },
      { "flags", 24, 4 },
      { "reserved", 28, 4 },
      { "datamatch", 32, 8 },
    },
  },
  libvfio_user_sub_region_ioeventfd = {
    size = 48,
    fields = {
      { "offset", 0, 8 },
      { "size", 8, 8 },
      { "fd_index", 16, 4 },
      { "type", 20, 4 },
      { "flags", 24, 4 },
      { "shadow_fd_index", 28, 4 },
      { "shadow_offset", 32, 8 },
      { "datamatch", 40, 8 },
    },
  },
  vfio_irq_info = { size = 16, fields = { { "argsz", 0, 4 }, { "flags", 4, 4 }, { "index", 8, 4 }, { "count", 12, 4 } } },
  vfio_irq_set = {
    size = 20,
    fields = { { "argsz", 0, 4 }, { "flags", 4, 4 }, { "index", 8, 4 }, { "start", 12, 4 }, { "count", 16, 4 } },
  },
  vfio_user_region_access = { size = 16, fields = { { "offset", 0, 8 }, { "region", 8, 4 }, { "count", 12, 4 } } },
  vfio_user_dma_rw = { size = 16, fields = { { "address", 0, 8 }, { "count", 8, 8 } } },
  vfio_user_dirty_pages = { size = 8, fields = { { "argsz", 0, 4 }, { "flags", 4, 4 } } },
  vfio_user_bitmap_range = { size = 32, fields = { { "iova", 0, 8 }, { "size", 8, 8 }, { "pgsize", 16, 8 }, { "bitmap_size", 24, 8 } } },
  vfio_user_region_write_multi = { size = 8, fields = { { "count", 0, 8 } } },
  vfio_user_write_multi_entry = { size = 24, fields = { { "offset", 0, 8 }, { "region", 8, 4 }, { "count", 12, 4 }, { "data", 16, 8 } } },
  vfio_device_feature = { size = 8, fields = { { "argsz", 0, 4 }, { "flags", 4, 4 } } },
  vfio_device_feature_mig_state = { size = 8, fields = { { "device_state", 0, 4 }, { "data_fd", 4, 4 } } },
  vfio_user_device_feature_dma_logging_control = { size = 16, fields = { { "page_size", 0, 8 }, { "num_ranges", 8, 4 }, { "reserved", 12, 4 } } },
  vfio_device_feature_dma_logging_range = { size = 16, fields = { { "iova", 0, 8 }, { "length", 8, 8 } } },
  vfio_user_device_feature_dma_logging_report = { size = 24, fields = { { "iova", 0, 8 }, { "length", 8, 8 }, { "page_size", 16, 8 } } },
  vfio_device_feature_bus_master = { size = 4, fields = { { "op", 0, 4 } } },
  vfio_device_feature_dma_buf = {
    size = 16,
    fields = { { "region_index", 0, 4 }, { "open_flags", 4, 4 }, { "flags", 8, 4 }, { "nr_ranges", 12, 4 } },
  },
  vfio_region_dma_range = { size = 16, fields = { { "offset", 0, 8 }, { "length", 8, 8 } } },
  vfio_ts_device_feature_system_sleep = { size = 8, fields = { { "suspend_eventfd", 0, 4 }, { "resume_eventfd", 4, 4 } } },
  vfio_device_feature_migration = { size = 8, fields = { { "flags", 0, 8 } } },
  vfio_device_feature_mig_data_size = { size = 8, fields = { { "stop_copy_length", 0, 8 } } },
  vfio_user_mig_data = { size = 8, fields = { { "argsz", 0, 4 }, { "size", 4, 4 } } },
  vfio_precopy_info = { size = 24, fields = { { "argsz", 0, 4 }, { "flags", 4, 4 }, { "initial_bytes", 8, 8 }, { "dirty_bytes", 16, 8 } } },
}
local messages = {
  [1] = {
    name = "VERSION",
    secret = true,
    command = {
      at = 0,
      structs = { "vfio_user_version" },
      words = {
        { kind = "dec", ref = { at = 0, bytes = 2 } },
        ".",
        { kind = "dec", ref = { at = 2, bytes = 2 } },
        " ",
        { kind = "text", at = 4 },
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_user_version" },
      words = {
        { kind = "dec", ref = { at = 0, bytes = 2 } },
        ".",
        { kind = "dec", ref = { at = 2, bytes = 2 } },
        " ",
        { kind = "text", at = 4 },
      },
    },
  },
  [2] = {
    name = "DMA_MAP",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_user_dma_map" },
      words = {
        { kind = "range", ref = { at = 16, bytes = 8 }, size = { at = 24, bytes = 8 } },
        " ",
        { kind = "flags", ref = { at = 4, bytes = 4 }, names = names[1] },
        ", offset ",
        { kind = "hex", ref = { at = 8, bytes = 8 } },
        " of its memory",
      },
    },
    reply = { at = 0, structs = {}, words = { "ok" } },
  },
  [3] = {
    name = "DMA_UNMAP",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_user_dma_unmap" },
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 2, is = 2 },
              shape = { at = 0, structs = {}, words = { "all" } },
            },
            {
              test = { kind = "longer", than = -1 },
              shape = {
                at = 0,
                structs = {},
                words = { { kind = "range", ref = { at = 8, bytes = 8 }, size = { at = 16, bytes = 8 } } },
              },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 1, is = 1 },
              shape = {
                at = 24,
                structs = { "vfio_user_bitmap" },
                words = {
                  ", with its dirty bitmap of ",
                  { kind = "dec", ref = { at = 32, bytes = 8 } },
                  " bytes in pages of ",
                  { kind = "dec", ref = { at = 24, bytes = 8 } },
                },
              },
            },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_user_dma_unmap" },
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 2, is = 2 },
              shape = { at = 0, structs = {}, words = { "all" } },
            },
            {
              test = { kind = "longer", than = -1 },
              shape = {
                at = 0,
                structs = {},
                words = { { kind = "range", ref = { at = 8, bytes = 8 }, size = { at = 16, bytes = 8 } } },
              },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 1, is = 1 },
              shape = {
                at = 24,
                structs = { "vfio_user_bitmap" },
                words = { ", ", { kind = "dirty", at = 40, ref = { at = 8, bytes = 8 }, page = { at = 24, bytes = 8 } } },
              },
            },
          },
        },
      },
    },
  },
  [4] = {
    name = "DEVICE_GET_INFO",
    secret = false,
    command = { at = 0, structs = { "vfio_user_device_info" }, words = {} },
    reply = {
      at = 0,
      structs = { "vfio_user_device_info" },
      words = {
        { kind = "dec", ref = { at = 8, bytes = 4 } },
        " regions, ",
        { kind = "dec", ref = { at = 12, bytes = 4 } },
        " interrupt indexes, ",
        { kind = "flags", ref = { at = 4, bytes = 4 }, names = names[2] },
      },
    },
  },
  [5] = {
    name = "DEVICE_GET_REGION_INFO",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_region_info" },
      words = {
        { kind = "name", ref = { at = 8, bytes = 4 }, mask = 4294967295, names = names[3], otherwise = "region" },
        ", room for ",
        { kind = "dec", ref = { at = 0, bytes = 4 } },
        " bytes",
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_region_info" },
      words = {
        { kind = "name", ref = { at = 8, bytes = 4 }, mask = 4294967295, names = names[3], otherwise = "region" },
        ": ",
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "zero", ref = { at = 16, bytes = 8 } },
              shape = { at = 0, structs = {}, words = { "none" } },
            },
            {
              test = { kind = "longer", than = -1 },
              shape = {
                at = 0,
                structs = {},
                words = {
                  { kind = "hex", ref = { at = 16, bytes = 8 } },
                  " bytes ",
                  { kind = "flags", ref = { at = 4, bytes = 4 }, names = names[4] },
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 4, is = 4 },
                        shape = {
                          at = 0,
                          structs = {},
                          words = { ", offset ", { kind = "hex", ref = { at = 24, bytes = 8 } } },
                        },
                      },
                    },
                  },
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 8, is = 8 },
                        shape = { at = 0, structs = {}, words = { { kind = "capabilities", ref = { at = 12, bytes = 4 } } } },
                      },
                    },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
  [6] = {
    name = "DEVICE_GET_REGION_IO_FDS",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_user_region_io_fds" },
      words = {
        { kind = "name", ref = { at = 8, bytes = 4 }, mask = 4294967295, names = names[3], otherwise = "region" },
        ", room for ",
        { kind = "dec", ref = { at = 0, bytes = 4 } },
        " bytes",
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_user_region_io_fds" },
      words = {
        { kind = "name", ref = { at = 8, bytes = 4 }, mask = 4294967295, names = names[3], otherwise = "region" },
        ": ",
        { kind = "dec", ref = { at = 12, bytes = 4 } },
        " ",
        {
          kind = "each",
          at = 16,
          count = { at = 12, bytes = 4 },
          layouts = {
            {
              struct = "vfio_user_sub_region_ioeventfd",
              size = 40,
              words = {
                { kind = "range", ref = { at = 0, bytes = 8 }, size = { at = 8, bytes = 8 } },
                {
                  kind = "pick",
                  cases = {
                    {
                      test = { kind = "bits", ref = { at = 24, bytes = 4 }, mask = 1, is = 1 },
                      shape = { at = 0, structs = {}, words = { " = ", { kind = "hex", ref = { at = 32, bytes = 8 } } } },
                    },
                  },
                },
                " ",
                { kind = "name", ref = { at = 20, bytes = 4 }, mask = 4294967295, names = names[5], otherwise = "type" },
                " ",
                { kind = "dec", ref = { at = 16, bytes = 4 } },
              },
            },
            {
              struct = "libvfio_user_sub_region_ioeventfd",
              size = 48,
              words = {
                { kind = "range", ref = { at = 0, bytes = 8 }, size = { at = 8, bytes = 8 } },
                {
                  kind = "pick",
                  cases = {
                    {
                      test = { kind = "bits", ref = { at = 24, bytes = 4 }, mask = 1, is = 1 },
                      shape = { at = 0, structs = {}, words = { " = ", { kind = "hex", ref = { at = 40, bytes = 8 } } } },
                    },
                  },
                },
                " ",
                { kind = "name", ref = { at = 20, bytes = 4 }, mask = 4294967295, names = names[5], otherwise = "type" },
                " ",
                { kind = "dec", ref = { at = 16, bytes = 4 } },
              },
            },
          },
        },
      },
    },
  },
  [7] = {
    name = "DEVICE_GET_IRQ_INFO",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_irq_info" },
      words = {
        {
          kind = "name",
          ref = { at = 8, bytes = 4 },
          mask = 4294967295,
          names = names[6],
          otherwise = "interrupt index",
        },
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_irq_info" },
      words = {
        {
          kind = "name",
          ref = { at = 8, bytes = 4 },
          mask = 4294967295,
          names = names[6],
          otherwise = "interrupt index",
        },
        ": ",
        { kind = "dec", ref = { at = 12, bytes = 4 } },
        " ",
        { kind = "flags", ref = { at = 4, bytes = 4 }, names = names[7] },
      },
    },
  },
  [8] = {
    name = "DEVICE_SET_IRQS",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_irq_set" },
      words = {
        {
          kind = "name",
          ref = { at = 8, bytes = 4 },
          mask = 4294967295,
          names = names[6],
          otherwise = "interrupt index",
        },
        " ",
        { kind = "name", ref = { at = 4, bytes = 4 }, mask = 56, names = names[8], otherwise = "action" },
        " ",
        { kind = "vectors", ref = { at = 12, bytes = 4 }, count = { at = 16, bytes = 4 } },
        ", ",
        { kind = "name", ref = { at = 4, bytes = 4 }, mask = 7, names = names[9], otherwise = "data" },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 20 },
              shape = { at = 0, structs = {}, words = { " ", { kind = "bytes", at = 20 } } },
            },
          },
        },
      },
    },
    reply = { at = 0, structs = {}, words = { "ok" } },
  },
  [9] = {
    name = "REGION_READ",
    secret = false,
    command = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_region_access" },
                words = {
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[3],
                    otherwise = "region",
                  },
                  "+",
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  ", ",
                  { kind = "dec", ref = { at = 12, bytes = 4 } },
                  " bytes",
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_region_access" },
                words = {
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[3],
                    otherwise = "region",
                  },
                  "+",
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  " = ",
                  { kind = "value", at = 16, most = 4294967295 },
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
  },
  [10] = {
    name = "REGION_WRITE",
    secret = false,
    command = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_region_access" },
                words = {
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[3],
                    otherwise = "region",
                  },
                  "+",
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  " = ",
                  { kind = "value", at = 16, most = 4294967295 },
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_region_access" },
                words = {
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[3],
                    otherwise = "region",
                  },
                  "+",
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  ", ",
                  { kind = "dec", ref = { at = 12, bytes = 4 } },
                  " bytes",
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
  },
  [11] = {
    name = "DMA_READ",
    secret = false,
    command = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_dma_rw" },
                words = {
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  ", ",
                  { kind = "dec", ref = { at = 8, bytes = 4 } },
                  " bytes",
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_dma_rw" },
                words = {
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  " = ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "bits", ref = { at = 12, bytes = 4 }, mask = 4294967295, is = 0 },
                        shape = {
                          at = 0,
                          structs = {},
                          words = { { kind = "value", at = 16, count = { at = 8, bytes = 4 }, most = 4294967295 } },
                        },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = {
                          at = 0,
                          structs = {},
                          words = { { kind = "value", at = 12, count = { at = 8, bytes = 4 }, most = 4294967295 } },
                        },
                      },
                    },
                  },
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
  },
  [12] = {
    name = "DMA_WRITE",
    secret = false,
    command = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_dma_rw" },
                words = {
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  " = ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "bits", ref = { at = 12, bytes = 4 }, mask = 4294967295, is = 0 },
                        shape = {
                          at = 0,
                          structs = {},
                          words = { { kind = "value", at = 16, count = { at = 8, bytes = 4 }, most = 4294967295 } },
                        },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = {
                          at = 0,
                          structs = {},
                          words = { { kind = "value", at = 12, count = { at = 8, bytes = 4 }, most = 4294967295 } },
                        },
                      },
                    },
                  },
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = {},
      words = {
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "longer", than = 0 },
              shape = {
                at = 0,
                structs = { "vfio_user_dma_rw" },
                words = {
                  { kind = "hex", ref = { at = 0, bytes = 8 } },
                  ", ",
                  { kind = "dec", ref = { at = 8, bytes = 4 } },
                  " bytes",
                },
              },
            },
            { test = { kind = "longer", than = -1 }, shape = { at = 0, structs = {}, words = { "ok" } } },
          },
        },
      },
    },
  },
  [13] = {
    name = "DEVICE_RESET",
    secret = false,
    command = { at = 0, structs = {}, words = {} },
    reply = { at = 0, structs = {}, words = { "ok" } },
  },
  [14] = {
    name = "DIRTY_PAGES",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_user_dirty_pages" },
      words = {
        { kind = "flags", ref = { at = 4, bytes = 4 }, names = names[10] },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 4, is = 4 },
              shape = {
                at = 8,
                structs = { "vfio_user_bitmap_range" },
                words = {
                  " ",
                  { kind = "range", ref = { at = 8, bytes = 8 }, size = { at = 16, bytes = 8 } },
                  " in pages of ",
                  { kind = "dec", ref = { at = 24, bytes = 8 } },
                  ", a bitmap of ",
                  { kind = "dec", ref = { at = 32, bytes = 8 } },
                  " bytes",
                },
              },
            },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_user_dirty_pages" },
      words = {
        { kind = "flags", ref = { at = 4, bytes = 4 }, names = names[10] },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 4, is = 4 },
              shape = {
                at = 8,
                structs = { "vfio_user_bitmap_range" },
                words = {
                  " ",
                  { kind = "range", ref = { at = 8, bytes = 8 }, size = { at = 16, bytes = 8 } },
                  ", ",
                  { kind = "dirty", at = 40, ref = { at = 8, bytes = 8 }, page = { at = 24, bytes = 8 } },
                },
              },
            },
          },
        },
      },
    },
  },
  [15] = {
    name = "REGION_WRITE_MULTI",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_user_region_write_multi" },
      words = {
        { kind = "dec", ref = { at = 0, bytes = 8 } },
        ": ",
        {
          kind = "each",
          at = 8,
          count = { at = 0, bytes = 8 },
          layouts = {
            {
              struct = "vfio_user_write_multi_entry",
              size = 24,
              words = {
                {
                  kind = "name",
                  ref = { at = 8, bytes = 4 },
                  mask = 4294967295,
                  names = names[3],
                  otherwise = "region",
                },
                "+",
                { kind = "hex", ref = { at = 0, bytes = 8 } },
                " ",
                { kind = "value", at = 16, count = { at = 12, bytes = 4 }, most = 8 },
              },
            },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_user_region_write_multi" },
      words = { { kind = "dec", ref = { at = 0, bytes = 8 } }, " written" },
    },
  },
  [16] = {
    name = "DEVICE_FEATURE",
    secret = true,
    command = {
      at = 0,
      structs = { "vfio_device_feature" },
      words = {
        { kind = "name", ref = { at = 4, bytes = 4 }, mask = 65535, names = names[11], otherwise = "feature" },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 65536, is = 65536 },
              shape = { at = 0, structs = {}, words = { " get" } },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 131072, is = 131072 },
              shape = { at = 0, structs = {}, words = { " set" } },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 262144, is = 262144 },
              shape = { at = 0, structs = {}, words = { " probe" } },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131072 },
              shape = { at = 8, structs = {}, words = { ": ", "a token" } },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131074 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_mig_state" },
                words = {
                  ": ",
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[12],
                    otherwise = "state",
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131078 },
              shape = {
                at = 8,
                structs = { "vfio_user_device_feature_dma_logging_control" },
                words = {
                  ": ",
                  "pages of ",
                  { kind = "dec", ref = { at = 8, bytes = 8 } },
                  ", ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "zero", ref = { at = 16, bytes = 4 } },
                        shape = { at = 0, structs = {}, words = { "all memory" } },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = {
                          at = 0,
                          structs = {},
                          words = {
                            {
                              kind = "each",
                              at = 24,
                              count = { at = 16, bytes = 4 },
                              layouts = {
                                {
                                  struct = "vfio_device_feature_dma_logging_range",
                                  size = 16,
                                  words = { { kind = "range", ref = { at = 0, bytes = 8 }, size = { at = 8, bytes = 8 } } },
                                },
                              },
                            },
                          },
                        },
                      },
                    },
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 65544 },
              shape = {
                at = 8,
                structs = { "vfio_user_device_feature_dma_logging_report" },
                words = {
                  ": ",
                  { kind = "range", ref = { at = 8, bytes = 8 }, size = { at = 16, bytes = 8 } },
                  " in pages of ",
                  { kind = "dec", ref = { at = 24, bytes = 8 } },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131082 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_bus_master" },
                words = {
                  ": ",
                  { kind = "name", ref = { at = 8, bytes = 4 }, mask = 4294967295, names = names[13], otherwise = "op" },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 65547 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_dma_buf" },
                words = {
                  ": ",
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[3],
                    otherwise = "region",
                  },
                  " ",
                  {
                    kind = "each",
                    at = 24,
                    count = { at = 20, bytes = 4 },
                    layouts = {
                      {
                        struct = "vfio_region_dma_range",
                        size = 16,
                        words = { { kind = "range", ref = { at = 0, bytes = 8 }, size = { at = 8, bytes = 8 } } },
                      },
                    },
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 196096 },
              shape = {
                at = 8,
                structs = { "vfio_ts_device_feature_system_sleep" },
                words = {
                  ": ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "bits", ref = { at = 8, bytes = 4 }, mask = 4294967295, is = 4294967295 },
                        shape = { at = 0, structs = {}, words = { "no longer" } },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = { at = 0, structs = {}, words = { "by eventfds" } },
                      },
                    },
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 196097 },
              shape = {
                at = 8,
                structs = {},
                words = {
                  ": ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "longer", than = 8 },
                        shape = { at = 0, structs = {}, words = { "suspend ", { kind = "dec", ref = { at = 8, bytes = 8 } } } },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = { at = 0, structs = {}, words = { "the last suspend" } },
                      },
                    },
                  },
                },
              },
            },
            {
              test = { kind = "longer", than = 8 },
              shape = { at = 0, structs = {}, words = { " ", { kind = "bytes", at = 8 } } },
            },
          },
        },
      },
    },
    reply = {
      at = 0,
      structs = { "vfio_device_feature" },
      words = {
        { kind = "name", ref = { at = 4, bytes = 4 }, mask = 65535, names = names[11], otherwise = "feature" },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 65536, is = 65536 },
              shape = { at = 0, structs = {}, words = { " get" } },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 131072, is = 131072 },
              shape = { at = 0, structs = {}, words = { " set" } },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 262144, is = 262144 },
              shape = { at = 0, structs = {}, words = { " probe" } },
            },
          },
        },
        {
          kind = "pick",
          cases = {
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131072 },
              shape = { at = 8, structs = {}, words = { ": ", "a token" } },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 65537 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_migration" },
                words = { ": ", { kind = "flags", ref = { at = 8, bytes = 8 }, names = names[14] } },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 65538 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_mig_state" },
                words = {
                  ": ",
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[12],
                    otherwise = "state",
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131074 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_mig_state" },
                words = {
                  ": ",
                  {
                    kind = "name",
                    ref = { at = 8, bytes = 4 },
                    mask = 4294967295,
                    names = names[12],
                    otherwise = "state",
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 65545 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_mig_data_size" },
                words = { ": ", { kind = "dec", ref = { at = 8, bytes = 8 } }, " bytes" },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131078 },
              shape = {
                at = 8,
                structs = { "vfio_user_device_feature_dma_logging_control" },
                words = {
                  ": ",
                  "pages of ",
                  { kind = "dec", ref = { at = 8, bytes = 8 } },
                  ", ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "zero", ref = { at = 16, bytes = 4 } },
                        shape = { at = 0, structs = {}, words = { "all memory" } },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = {
                          at = 0,
                          structs = {},
                          words = {
                            {
                              kind = "each",
                              at = 24,
                              count = { at = 16, bytes = 4 },
                              layouts = {
                                {
                                  struct = "vfio_device_feature_dma_logging_range",
                                  size = 16,
                                  words = { { kind = "range", ref = { at = 0, bytes = 8 }, size = { at = 8, bytes = 8 } } },
                                },
                              },
                            },
                          },
                        },
                      },
                    },
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 65544 },
              shape = {
                at = 8,
                structs = { "vfio_user_device_feature_dma_logging_report" },
                words = {
                  ": ",
                  { kind = "range", ref = { at = 8, bytes = 8 }, size = { at = 16, bytes = 8 } },
                  " in pages of ",
                  { kind = "dec", ref = { at = 24, bytes = 8 } },
                  ", ",
                  { kind = "dirty", at = 32, ref = { at = 8, bytes = 8 }, page = { at = 24, bytes = 8 } },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 131082 },
              shape = {
                at = 8,
                structs = { "vfio_device_feature_bus_master" },
                words = {
                  ": ",
                  { kind = "name", ref = { at = 8, bytes = 4 }, mask = 4294967295, names = names[13], otherwise = "op" },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 196096 },
              shape = {
                at = 8,
                structs = { "vfio_ts_device_feature_system_sleep" },
                words = {
                  ": ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "bits", ref = { at = 8, bytes = 4 }, mask = 4294967295, is = 4294967295 },
                        shape = { at = 0, structs = {}, words = { "no longer" } },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = { at = 0, structs = {}, words = { "by eventfds" } },
                      },
                    },
                  },
                },
              },
            },
            {
              test = { kind = "bits", ref = { at = 4, bytes = 4 }, mask = 524287, is = 196097 },
              shape = {
                at = 8,
                structs = {},
                words = {
                  ": ",
                  {
                    kind = "pick",
                    cases = {
                      {
                        test = { kind = "longer", than = 8 },
                        shape = { at = 0, structs = {}, words = { "suspend ", { kind = "dec", ref = { at = 8, bytes = 8 } } } },
                      },
                      {
                        test = { kind = "longer", than = -1 },
                        shape = { at = 0, structs = {}, words = { "the last suspend" } },
                      },
                    },
                  },
                },
              },
            },
            {
              test = { kind = "longer", than = 8 },
              shape = { at = 0, structs = {}, words = { " ", { kind = "bytes", at = 8 } } },
            },
          },
        },
      },
    },
  },
  [17] = {
    name = "MIG_DATA_READ",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_user_mig_data" },
      words = { "at most ", { kind = "dec", ref = { at = 4, bytes = 4 } }, " bytes" },
    },
    reply = {
      at = 0,
      structs = { "vfio_user_mig_data" },
      words = {
        { kind = "dec", ref = { at = 4, bytes = 4 } },
        " bytes ",
        { kind = "bytes", at = 8, count = { at = 4, bytes = 4 } },
      },
    },
  },
  [18] = {
    name = "MIG_DATA_WRITE",
    secret = false,
    command = {
      at = 0,
      structs = { "vfio_user_mig_data" },
      words = {
        { kind = "dec", ref = { at = 4, bytes = 4 } },
        " bytes ",
        { kind = "bytes", at = 8, count = { at = 4, bytes = 4 } },
      },
    },
    reply = { at = 0, structs = {}, words = { "ok" } },
  },
  [19] = {
    name = "MIG_GET_PRECOPY_INFO",
    secret = false,
    command = { at = 0, structs = { "vfio_precopy_info" }, words = {} },
    reply = {
      at = 0,
      structs = { "vfio_precopy_info" },
      words = {
        { kind = "dec", ref = { at = 8, bytes = 8 } },
        " bytes of the first state, ",
        { kind = "dec", ref = { at = 16, bytes = 8 } },
        " bytes changed since",
      },
    },
  },
}
-- end of the table

-- Bytes of data, elements of a list and characters that the summary shows; the rest is counted.
local SHOWN_BYTES = 16
local SHOWN_ELEMENTS = 8
local SHOWN_CHARS = 1024
local MAX_CAPABILITIES = 64
-- Elements of a list that the tree shows.
local TREE_ELEMENTS = 1024

local commands, registered = {}, {}
for number, row in pairs(messages) do commands[number] = row.name end
local types = { [0] = "command", [1] = "reply" }

local f = {
  id = ProtoField.uint16("vfio-user.id", "Message id"),
  command = ProtoField.uint16("vfio-user.command", "Command", base.DEC, commands),
  size = ProtoField.uint32("vfio-user.size", "Message size"),
  flags = ProtoField.uint32("vfio-user.flags", "Flags", base.HEX),
  type = ProtoField.uint32("vfio-user.flags.type", "Type", base.DEC, types, 0xf),
  no_reply = ProtoField.bool("vfio-user.flags.no_reply", "No reply wanted", 32, nil, 0x10),
  is_error = ProtoField.bool("vfio-user.flags.error", "Error", 32, nil, 0x20),
  errno = ProtoField.uint32("vfio-user.errno", "errno", base.DEC, errnos),
  json = ProtoField.string("vfio-user.json", "JSON"),
  words = ProtoField.string("vfio-user.words", "In words"),
  data = ProtoField.bytes("vfio-user.data", "Data"),
}
for _, field in pairs(f) do table.insert(registered, field) end

-- vfio-user.dma_map.address: a field of each structure, by the structure's name and its own.
local makers = { [2] = ProtoField.uint16, [4] = ProtoField.uint32, [8] = ProtoField.uint64 }
for name, struct in pairs(structs) do
  local short = name:gsub("^vfio_user_", ""):gsub("^vfio_ts_", ""):gsub("^vfio_", "")
  for _, field in ipairs(struct.fields) do
    field.proto = makers[field[3]]("vfio-user." .. short .. "." .. field[1], field[1], base.HEX_DEC)
    table.insert(registered, field.proto)
  end
end
proto.fields = registered

local malformed = ProtoExpert.new("vfio-user.malformed", "Malformed message", expert.group.MALFORMED, expert.severity.ERROR)
proto.experts = { malformed }

local function fail(...) error({ why = string.format(...) }, 0) end

local function band(a, b)
  if b == 0xffffffff then return a end
  local both, bit = 0, 1
  while a > 0 and b > 0 do
    if a % 2 == 1 and b % 2 == 1 then both = both + bit end
    a, b, bit = math.floor(a / 2), math.floor(b / 2), bit * 2
  end
  return both
end

local function hex(number)
  if type(number) == "number" then return string.format("0x%x", number) end
  return "0x" .. (number:tohex():gsub("^0+(%x)", "%1"))
end

local function dec(number)
  if type(number) == "number" then return string.format("%d", number) end
  return tostring(number)
end

local function small(number)
  if type(number) == "number" then return number end
  return number:lower()
end

local function range(first, size)
  if tostring(size) == "0" then return hex(first) .. "+0" end
  return hex(first) .. "-" .. hex(first + size - UInt64(1))
end

local function name_in(list, number)
  for _, entry in ipairs(list) do
    if entry[2] == number then return entry[1] end
  end
  return nil
end

local function flags_of(number, list)
  local low = small(number)
  local said, unknown = {}, low
  for _, entry in ipairs(list) do
    if band(low, entry[2]) == entry[2] then
      table.insert(said, entry[1]:lower())
      unknown = unknown - band(unknown, entry[2])
    end
  end
  local high = type(number) == "number" and 0 or number:higher()
  if high ~= 0 then table.insert(said, hex(UInt64(unknown, high)))
  elseif unknown ~= 0 then table.insert(said, hex(unknown)) end
  if #said == 0 then return "no flags" end
  return table.concat(said, "|")
end

-- A VF token is a secret. `vfio trace` writes none into its files; other captures may hold one.
local function without_tokens(text)
  if text:find("\\", 1, true) then return string.rep("*", #text) end
  local function stars(key, value) return key .. string.rep("*", #value) end
  text = text:gsub('([vV][fF]_[tT][oO][kK][eE][nN]"%s*:%s*")([^"%s]+)', stars)
  text = text:gsub('([vV][fF]_[tT][oO][kK][eE][nN]=)([^"%s]+)', stars)
  local function digits(count) return string.rep("%x", count) end
  local uuid = table.concat({ digits(8), digits(4), digits(4), digits(4), digits(12) }, "%-")
  return (text:gsub(uuid, function(found) return string.rep("*", #found) end))
end

local function printable(text)
  return (text:gsub("[^ -~]", function(c) return string.format("\\u%04x", c:byte()) end))
end

-- One payload: `p` its Tvb (nil when it is empty), `n` its length, `have` what was captured of it.
local Reader = {}
Reader.__index = Reader

function Reader:number(ref, base)
  local at = base + ref.at
  if at + ref.bytes > self.n then fail("%d bytes, %d at least", self.n, at + ref.bytes) end
  if at + ref.bytes > self.have then fail("it was not captured in whole") end
  if ref.bytes == 8 then return self.p(at, 8):le_uint64() end
  return self.p(at, ref.bytes):le_uint()
end

function Reader:bytes(at, count)
  if count == 0 then return "" end
  local shown = math.min(count, SHOWN_BYTES)
  if self.have - at < shown then return string.format("[%d bytes]", count) end
  local digits = self.p(at, shown):bytes():tohex(true, " ")
  if count <= SHOWN_BYTES then return "[" .. digits .. "]" end
  return string.format("[%s … %d bytes]", digits, count)
end

-- Where the data of a word is, and how much of it there is; the tree shows it.
function Reader:data(word, base)
  local at = base + word.at
  local count = math.max(0, self.n - at)
  if word.count then
    count = math.min(small(self:number(word.count, base)), word.most or math.huge)
    if at + count > self.n and count > 0 then fail("%d bytes of data, %d announced", self.n - at, count) end
  end
  local captured = math.min(count, self.have - at)
  if captured > 0 then self.tree:add(f.data, self.p(at, captured)) end
  return at, count
end

function Reader:holds(test, base)
  if test.kind == "longer" then return self.n - base > test.than end
  local number = self:number(test.ref, base)
  if test.kind == "zero" then return tostring(number) == "0" end
  return band(small(number), test.mask) == test.is
end

function Reader:areas(at)
  local count = self:number({ at = 8, bytes = 4 }, at)
  local said = {}
  for i = 1, math.min(count, SHOWN_ELEMENTS) do
    local base = at + 16 + (i - 1) * 16
    table.insert(said, range(self:number({ at = 0, bytes = 8 }, base), self:number({ at = 8, bytes = 8 }, base)))
  end
  return ", areas " .. table.concat(said, " ") .. (count > #said and " …" or "")
end

local say = {}

function say.dec(self, word, base) return dec(self:number(word.ref, base)) end
function say.hex(self, word, base) return hex(self:number(word.ref, base)) end
function say.range(self, word, base) return range(self:number(word.ref, base), self:number(word.size, base)) end
function say.flags(self, word, base) return flags_of(self:number(word.ref, base), word.names) end

function say.name(self, word, base)
  local number = band(small(self:number(word.ref, base)), word.mask)
  return name_in(word.names, number) or string.format("%s %d", word.otherwise, number)
end

function say.value(self, word, base)
  local at, count = self:data(word, base)
  if count ~= 1 and count ~= 2 and count ~= 4 and count ~= 8 or self.have - at < count then return self:bytes(at, count) end
  local digits = ""
  for i = 0, count - 1 do digits = string.format("%02x", self.p(at + i, 1):le_uint()) .. digits end
  return "0x" .. digits
end

function say.bytes(self, word, base) return self:bytes(self:data(word, base)) end

function say.text(self, word, base)
  local at = base + word.at
  local captured = math.min(self.n, self.have) - at
  if captured <= 0 then return "" end
  local text = without_tokens((self.p(at, captured):raw():gsub("%z$", "")))
  self.tree:add(f.json, self.p(at, captured), printable(text))
  return printable(text:sub(1, SHOWN_CHARS))
end

function say.vectors(self, word, base)
  local start, count = self:number(word.ref, base), self:number(word.count, base)
  if count == 0 then return "all" end
  if count == 1 then return string.format("vector %d", start) end
  return string.format("vectors %d to %d", start, start + count - 1)
end

function say.dirty(self, word, base)
  local first, page = self:number(word.ref, base), self:number(word.page, base)
  local at = base + word.at
  if self.have < self.n then return string.format("a bitmap of %d bytes", self.n - at) end
  local size = math.max(0, self.n - at)
  local pages, begun, runs = 0, nil, {}
  local function end_run(bit)
    if begun ~= nil then table.insert(runs, range(first + UInt64(begun) * page, UInt64(bit - begun) * page)) end
    begun = nil
  end
  if size > 0 then
    self.tree:add(f.data, self.p(at, size))
    local bytes = self.p(at, size):bytes()
    for i = 0, size - 1 do
      local byte = bytes:get_index(i)
      if byte == 0 then end_run(i * 8)
      else
        for bit = 0, 7 do
          if byte % 2 == 1 then
            pages = pages + 1
            begun = begun or i * 8 + bit
          else end_run(i * 8 + bit) end
          byte = math.floor(byte / 2)
        end
      end
    end
    end_run(size * 8)
  end
  if pages == 0 then return "no page is dirty" end
  local shown = table.concat(runs, ", ", 1, math.min(#runs, SHOWN_ELEMENTS))
  return string.format("%s dirty: %s%s", pages == 1 and "1 page is" or pages .. " pages are", shown, #runs > SHOWN_ELEMENTS and ", …" or "")
end

function say.each(self, word, base)
  local at = base + word.at
  local bytes = self.n - at
  if bytes == 0 then return "" end
  local announced = self:number(word.count, base)
  local count = small(announced)
  for _, layout in ipairs(word.layouts) do
    if layout.size * count == bytes and dec(announced) == dec(count) then
      local said = {}
      local there = math.floor((self.have - at) / layout.size)
      for i = 0, math.min(count, TREE_ELEMENTS, there) - 1 do
        local element = at + i * layout.size
        self:fields(structs[layout.struct], element)
        if i < SHOWN_ELEMENTS then table.insert(said, self:words(layout.words, element)) end
      end
      return table.concat(said, ", ") .. (count > #said and (#said > 0 and ", …" or "…") or "")
    end
  end
  fail("%d bytes for %s elements", bytes, dec(announced))
end

function say.capabilities(self, word, base)
  local at, said, hops = small(self:number(word.ref, base)), "", 0
  while at ~= 0 do
    hops = hops + 1
    if hops > MAX_CAPABILITIES then fail("the capability chain has no end") end
    if at + 8 > self.n then fail("the capability chain leads to byte %d", at) end
    local id = self.p(at, 2):le_uint()
    if id == 1 then said = said .. self:areas(at)
    elseif id == 2 then
      said = said .. string.format(", type %s:%s", hex(self:number({ at = 8, bytes = 4 }, at)), hex(self:number({ at = 12, bytes = 4 }, at)))
    elseif id == 3 then said = said .. ", msix_mappable"
    else said = said .. string.format(", capability %d", id) end
    at = self.p(at + 4, 4):le_uint()
  end
  return said
end

function say.pick(self, word, base)
  for _, case in ipairs(word.cases) do
    if self:holds(case.test, base) then return self:shape(case.shape, base) end
  end
  return ""
end

function Reader:words(words, base)
  local said = {}
  for _, word in ipairs(words) do
    table.insert(said, type(word) == "string" and word or say[word.kind](self, word, base))
  end
  return table.concat(said)
end

function Reader:fields(struct, at)
  for _, field in ipairs(struct.fields) do self.tree:add_le(field.proto, self.p(at + field[2], field[3])) end
end

function Reader:shape(shape, base)
  local at = base + shape.at
  for _, name in ipairs(shape.structs) do
    local struct = structs[name]
    if at + struct.size > self.n then fail("%d bytes, %d at least", self.n, at + struct.size) end
    if at + struct.size > self.have then fail("it was not captured in whole") end
    self:fields(struct, at)
    at = at + struct.size
  end
  return self:words(shape.words, base)
end

-- The reason behind the header of an error, as `vfio_ts_reasons` has it.
local function reason_of(text)
  local function part(key)
    local found = text:match('"' .. key .. '"%s*:%s*"(.-[^\\])"')
    return found and found:gsub("\\(.)", "%1") or nil
  end
  local message, fix = part("message"), part("fix")
  if message == nil then return "" end
  return printable(": " .. message .. (fix and " (" .. fix .. ")" or ""))
end

local function words_of(row, reply, reader)
  if row == nil then
    if reader.have > 0 then reader.tree:add(f.data, reader.p(0)) end
    return reader:bytes(0, reader.n)
  end
  local good, words = pcall(reader.shape, reader, reply and row.reply or row.command, 0)
  if good then return (words:gsub("^%s+", ""):gsub("%s+$", "")) end
  local why = type(words) == "table" and words.why or "it was not captured in whole"
  reader.tree:add_proto_expert_info(malformed, why)
  return string.format("malformed (%s)%s", why, row.secret and "" or ": " .. reader:bytes(0, reader.n))
end

function proto.dissector(buffer, pinfo, root)
  pinfo.cols.protocol = "vfio-user"
  local tree = root:add(proto, buffer())
  local length = buffer:reported_len()
  if buffer:len() < 16 then
    tree:add_proto_expert_info(malformed, string.format("%d bytes, less than a header", length))
    return buffer:len()
  end
  local command = buffer(2, 2):le_uint()
  local flags = buffer(8, 4):le_uint()
  local reply = flags % 16 == 1
  local row = messages[command]

  tree:add_le(f.id, buffer(0, 2))
  tree:add_le(f.command, buffer(2, 2))
  tree:add_le(f.size, buffer(4, 4))
  local bits = tree:add_le(f.flags, buffer(8, 4))
  bits:add_le(f.type, buffer(8, 4))
  bits:add_le(f.no_reply, buffer(8, 4))
  bits:add_le(f.is_error, buffer(8, 4))
  tree:add_le(f.errno, buffer(12, 4))

  local p = buffer:len() > 16 and buffer(16):tvb() or nil
  local reader = setmetatable({ p = p, n = length - 16, have = buffer:len() - 16, tree = tree }, Reader)
  local kind, words = "", ""
  if reply and band(flags, 0x20) ~= 0 then
    local errno = buffer(12, 4):le_uint()
    kind, words = " error", errnos[errno] or string.format("errno %d", errno)
    if p then words = words .. reason_of(p(0):raw()) end
  else
    kind = reply and " reply" or band(flags, 0x10) ~= 0 and " posted" or ""
    words = words_of(row, reply, reader)
  end
  local summary = string.format("#%d %s%s %s", buffer(0, 2):le_uint(), row and row.name or string.format("command %d", command), kind, words)
  summary = summary:gsub("%s+$", "")
  tree:add(f.words, buffer(), words):set_generated()
  tree:append_text(", " .. summary)
  pinfo.cols.info = summary
  return buffer:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, proto)

using System.Text;
using Sandbox.Isolation.Backends;
using Sandbox.Snapshots.Chunks;

namespace Sandbox.Snapshots.Manifests;

/// <summary>Manifests as bytes (before compression and encryption). Read only after authentication, so a fault here is a fault of ours or of another version.</summary>
internal static class ManifestFormat
{
    private const byte Version = 1;

    public static byte[] Write(Manifest manifest)
    {
        using var bytes = new MemoryStream();
        using var writer = new BinaryWriter(bytes, Encoding.UTF8);
        var packs = manifest.Chunks.Select(c => c.Pack).Distinct(StringComparer.Ordinal).ToList();
        var numbers = packs.Select((p, i) => (p, i)).ToDictionary(p => p.p, p => p.i, StringComparer.Ordinal);
        writer.Write(Version);
        writer.Write(manifest.SnapshotId);
        writer.Write(manifest.SessionId);
        writer.Write(manifest.ParentId ?? "");
        writer.Write(manifest.CreatedAt.UtcTicks);
        writer.Write(manifest.StoredBytes);
        WriteList(writer, packs, writer.Write);
        writer.Write(manifest.Machine is not null);
        if (manifest.Machine is { } machine)
        {
            writer.Write(machine.Backend);
            writer.Write(machine.Fingerprint);
            writer.Write(machine.GoldenId ?? "");
            writer.Write(machine.MemoryBytes);
            writer.Write(machine.DiskBytes);
        }

        WriteChunk(manifest.Devices);
        WriteList(writer, manifest.Memory, WriteRegion);
        WriteList(writer, manifest.Disk, WriteRegion);
        WriteList(writer, manifest.Files, file =>
        {
            writer.Write(file.Name);
            WriteList(writer, file.Chunks, WriteChunk);
        });
        writer.Flush();
        return bytes.ToArray();

        void WriteRegion(ManifestRegion region)
        {
            writer.Write7BitEncodedInt64(region.Index);
            writer.Write(region.Present);
            writer.Write(region.Zero);
            WriteChunk(region.Chunk);
        }

        void WriteChunk(StoredChunk? chunk)
        {
            writer.Write(chunk is not null);
            if (chunk is not null)
            {
                writer.Write(chunk.Id.Bytes);
                writer.Write7BitEncodedInt(numbers[chunk.Pack]);
                writer.Write7BitEncodedInt(chunk.Offset);
                writer.Write7BitEncodedInt(chunk.Length);
            }
        }
    }

    /// <exception cref="InvalidDataException">Not a manifest of this version.</exception>
    public static Manifest Read(byte[] bytes)
    {
        using var reader = new BinaryReader(new MemoryStream(bytes), Encoding.UTF8);
        try
        {
            var version = reader.ReadByte();
            if (version != Version)
            {
                throw new InvalidDataException($"its format is {version}, this program reads {Version}");
            }

            var (snapshot, session, parent) = (reader.ReadString(), reader.ReadString(), reader.ReadString());
            var (created, stored) = (new DateTimeOffset(reader.ReadInt64(), TimeSpan.Zero), reader.ReadInt64());
            var packs = ReadList(reader, reader.ReadString);
            var machine = reader.ReadBoolean()
                ? new MachineFacts(reader.ReadString(), reader.ReadString(), reader.ReadString() is { Length: > 0 } golden ? golden : null, reader.ReadInt64(), reader.ReadInt64())
                : null;
            return new Manifest
            {
                SnapshotId = snapshot,
                SessionId = session,
                ParentId = parent.Length > 0 ? parent : null,
                CreatedAt = created,
                StoredBytes = stored,
                Machine = machine,
                Devices = ReadChunk(),
                Memory = ReadList(reader, ReadRegion),
                Disk = ReadList(reader, ReadRegion),
                Files = ReadList(reader, () => new ManifestFile(reader.ReadString(), ReadList(reader, () => ReadChunk()!))),
            };

            ManifestRegion ReadRegion() => new(reader.Read7BitEncodedInt64(), reader.ReadUInt32(), reader.ReadUInt32(), ReadChunk());

            StoredChunk? ReadChunk() => reader.ReadBoolean()
                ? new(new ChunkId(reader.ReadBytes(ChunkCodec.IdBytes)), packs[reader.Read7BitEncodedInt()], reader.Read7BitEncodedInt(), reader.Read7BitEncodedInt())
                : null;
        }
        catch (Exception e) when (e is EndOfStreamException or ArgumentException or FormatException)
        {
            throw new InvalidDataException("it ends or continues where it should not", e);
        }
    }

    private static void WriteList<T>(BinaryWriter writer, IReadOnlyCollection<T> items, Action<T> write)
    {
        writer.Write7BitEncodedInt(items.Count);
        foreach (var item in items)
        {
            write(item);
        }
    }

    private static List<T> ReadList<T>(BinaryReader reader, Func<T> read)
    {
        var count = reader.Read7BitEncodedInt();
        var items = new List<T>();
        for (var i = 0; i < count; i++)
        {
            items.Add(read());
        }

        return items;
    }
}

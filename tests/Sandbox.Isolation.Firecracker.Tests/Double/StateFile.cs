using System.Security.Cryptography;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>The double's own format of a saved machine's state: what was configured, which guest it is, and what memory and disks must hold.</summary>
internal sealed record StateFile
{
    private const string Magic = "the double's state\n";
    private const int Block = 65536;

    public required long MemoryBytes { get; init; }

    public required SavedDrive[] Drives { get; init; }

    public required string UdsPath { get; init; }

    /// <summary>The agent process, and where it listens.</summary>
    public required string Agent { get; init; }

    public required uint AgentPort { get; init; }

    public required SortedDictionary<long, string> Pages { get; init; }

    public byte[] Encode()
    {
        var json = JsonSerializer.SerializeToUtf8Bytes(this);
        return [.. System.Text.Encoding.ASCII.GetBytes(Magic), .. SHA256.HashData(json), .. json];
    }

    public static StateFile Decode(byte[] bytes)
    {
        if (!bytes.AsSpan().StartsWith(System.Text.Encoding.ASCII.GetBytes(Magic)) || bytes.Length < Magic.Length + 32
            || !SHA256.HashData(bytes.AsSpan(Magic.Length + 32)).AsSpan().SequenceEqual(bytes.AsSpan(Magic.Length, 32)))
        {
            throw new DoubleException("Failed to restore from snapshot: the state file is damaged");
        }

        return JsonSerializer.Deserialize<StateFile>(bytes.AsSpan(Magic.Length + 32)) ?? throw new DoubleException("the state file is empty");
    }

    /// <summary>A hash over all blocks that are not zero.</summary>
    public static string HashOf(SafeFileHandle disk)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var block = new byte[Block];
        var length = RandomAccess.GetLength(disk);
        for (var at = 0L; at < length; at += Block)
        {
            var read = RandomAccess.Read(disk, block, at);
            if (block.AsSpan(0, read).ContainsAnyExcept((byte)0))
            {
                hash.AppendData(BitConverter.GetBytes(at));
                hash.AppendData(block, 0, read);
            }
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}

/// <summary>A drive of a saved machine. Of the root only the length is compared: it is large, and nothing writes to it.</summary>
internal sealed record SavedDrive(string Id, string Path, bool IsReadOnly, long Length, string Hash);

namespace Sandbox.Gateway;

/// <summary>How the HTTP facade behaves.</summary>
public sealed record GatewayOptions
{
    /// <summary>Single-user development mode: no key is asked for, everyone is the tenant <c>dev</c>. Only on loopback addresses.</summary>
    public bool Development { get; init; }

    /// <summary>Largest JSON body, in bytes. Default 1 MiB.</summary>
    public long MaxJsonBytes { get; init; } = 1 << 20;

    /// <summary>Largest uploaded file, in bytes. Default 5 GiB.</summary>
    public long MaxUploadBytes { get; init; } = 5L << 30;

    /// <summary>How long a key that was found valid is trusted without asking again. A revoked key stops working after at most this long.</summary>
    public TimeSpan KeyCache { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>What signed addresses are signed with: 32 bytes. Random by default, so that they are good at this gateway only, until it is restarted.</summary>
    public byte[] TokenKey { get; init; } = System.Security.Cryptography.RandomNumberGenerator.GetBytes(32);

    /// <summary>How often a silent event stream is given a comment, so that no proxy cuts it. Default 15 s.</summary>
    public TimeSpan KeepAlive { get; init; } = TimeSpan.FromSeconds(15);
}

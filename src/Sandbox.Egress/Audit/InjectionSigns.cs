using System.Text.RegularExpressions;

namespace Sandbox.Egress.Audit;

/// <summary>Text in a request that speaks to whoever judges it. No server needs to be sent such; it is a sign by itself.</summary>
internal static class InjectionSigns
{
    private static readonly Regex Signs = SecretPatterns.Make(
        @"(?i)\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:previous|prior|above|earlier|system|all|your)\b.{0,40}\b(?:instruction|prompt|rule|message|direction|polic)"
        + @"|\b(?:answer|respond|reply|verdict|decision|output|return)\b.{0,20}\b(?:with\s+)?[""':\s]{0,5}allow\b"
        + @"|\byou\s+(?:must|should|will|are\s+to)\s+(?:allow|approve|permit|let)\b"
        + @"|\b(?:egress|security|request)\s+(?:auditor|judge|reviewer)\b"
        + @"|</?(?:system|assistant)>|<\|im_start\|>|\[/?INST\]");

    private static readonly Regex Invisible = SecretPatterns.Make(@"\p{Cf}+");
    private static readonly Regex Spaces = SecretPatterns.Make(@"[\s\\]+");

    /// <summary>Whether a text has such signs. Whitespace of any kind is one space, and characters that do not show are not there.</summary>
    public static bool AreIn(string text) => Signs.IsMatch(Spaces.Replace(Invisible.Replace(text, ""), " "));
}
